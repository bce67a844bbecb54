"""Images with one class and boxes of it, and the batches made of them."""
