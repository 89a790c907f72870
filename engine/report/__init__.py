"""One run, told to people: a card for a terminal, plain lines, Markdown for a merge request, one HTML file."""
