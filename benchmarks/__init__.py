"""Speed, memory and accuracy of the package, beside other libraries."""
