"""What both halves of the client use: no input or output over the network."""
