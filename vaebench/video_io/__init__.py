"""Reading video files: decoding, resizing, manifests and the file sources that data sets share."""
