"""The report of a chain: what each stage reached, pictures of what the models see, and one page that shows it all."""
