import hashlib
import json
import os
import resource
import subprocess
import sys

import pytest
from report_records import a_record

from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.records import Count, digest, file_digest, read_record, read_records, run_folder, write_record, write_whole
