"""Look: where the network looks, live on the image, with the questions to ask about it."""
