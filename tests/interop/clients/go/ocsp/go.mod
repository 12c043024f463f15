module chancery.invalid/interop/ocsp

go 1.21.13

require golang.org/x/crypto v0.26.0
