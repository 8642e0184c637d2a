"""Tests; a package, so that `from tests import reference` finds this folder and no other."""
