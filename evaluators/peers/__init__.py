"""Other engines beside a folder of olivine: their models of the same checkpoint, their loss and their speed."""
