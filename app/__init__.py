"""The Streamlit app; `main.py` is its entry, `ltp_ui` what its pages share."""
