"""Methods to compare MAGE with, one file each, against the contract of `mage.method`."""
