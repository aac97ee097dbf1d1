from google.protobuf import descriptor_pb2 as _descriptor_pb2
from jobwire.v1 import job_pb2 as _job_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
JOB_FIELD_NUMBER: _ClassVar[int]
job: _descriptor.FieldDescriptor
JOBS_FIELD_NUMBER: _ClassVar[int]
jobs: _descriptor.FieldDescriptor
