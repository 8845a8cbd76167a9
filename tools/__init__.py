"""What the repository needs beside the product: the documentation site and the drawings."""
