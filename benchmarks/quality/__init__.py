"""How well do learning rates suggested from a short test train?"""
