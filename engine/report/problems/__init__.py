"""The problems of specs in the forms that people, editors and CI services read. Pure: problems -> text."""
