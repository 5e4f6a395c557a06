"""Letters between agencies: asked, answered, circulated, sealed for those who may read them."""
