"""What training needs beside the network: what is saved for backward and what is moved, predicted and then counted."""
