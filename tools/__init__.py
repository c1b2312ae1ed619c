"""Tools for developers: ladder copies shared text between the scripts, blocks writes parts of Markdown pages."""
