"""Tools for whoever changes the scripts: ladder carries shared text between them, blocks writes parts of pages."""
