"""Generated code of the contract `jobwire.v1`. Private: the public API hands out no protobuf type."""
