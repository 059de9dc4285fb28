"""Small applications that the wrapper starts."""
