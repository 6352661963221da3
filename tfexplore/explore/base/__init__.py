"""What all explorers share: controls, sheets and how they are drawn, the live figure, the look."""
