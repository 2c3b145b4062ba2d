"""Labelled images: one reader per dataset format, the embedded world, augmentation."""
