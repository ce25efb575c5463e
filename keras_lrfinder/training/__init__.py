"""The range test inside Keras: everything that touches a model."""
