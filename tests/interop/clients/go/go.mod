module chancery.invalid/interop/clients

go 1.19
