"""The client side of commands: each file has the name of the server's that answers them."""
