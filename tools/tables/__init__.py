"""Tables that an agency hands over: read strictly, judged row by row, issued in bulk."""
