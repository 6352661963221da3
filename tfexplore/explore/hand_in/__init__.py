"""The page that ends the course: three predictions for a network of the learner, checked by counting."""
