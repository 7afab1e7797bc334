"""Does a change of the code's form change a number? Run by hand; see :mod:`tests.regression.__main__`."""
