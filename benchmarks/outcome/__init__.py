"""What a suggested learning rate ends with: excess loss and time lost."""
