"""Training of WF-VAE: recipes, clips, the run, its log, validation and plots."""
