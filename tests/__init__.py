"""A package by its name: a folder called tests elsewhere on the path can not take its place."""
