"""What is passed around: the operator's wishes (`spec`), the kernel's objects (`objects`), ciphers, overhead, plans."""
