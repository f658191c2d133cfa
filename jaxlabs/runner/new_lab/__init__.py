"""The lab that `jaxlabs new` copies."""
