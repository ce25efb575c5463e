"""Other people's ways of training: each as it would be without a range test."""
