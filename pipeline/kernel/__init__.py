"""The Kaggle kernel: what is uploaded for it, and the check that Kaggle will run it offline."""
