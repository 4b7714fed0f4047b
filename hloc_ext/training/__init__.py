"""Training of the models and vocabularies that the package ships, and of new ones."""
