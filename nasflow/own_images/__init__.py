"""What nasflow tells a person about the images of their own, before anything is trained."""
