"""An equation unrolled over time: substituted into itself, or regrouped in pairs; operations and depth counted."""
