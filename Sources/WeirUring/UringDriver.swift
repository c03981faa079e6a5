// UringDriver follows.
