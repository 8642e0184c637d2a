"""The Length robustness page: accuracy and cost by length, and which kinds of token leave first."""
