"""A package, so that its JupyterLab and its Chromium end with its last test, not with the session.

Playwright keeps an event loop running in this thread, and the other tests of the same worker start loops of their own.
"""
