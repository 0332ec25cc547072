"""A batch from file to file: resumable, counted, reported. What ``apiclient batch`` runs."""

from apiclient.job._checkpoint import Checkpoint
from apiclient.job._histogram import Histogram
from apiclient.job._job import Job
from apiclient.job._lean import lean_pipeline
from apiclient.job._options import Options, Progress
from apiclient.job._queued import Queue
from apiclient.job._statistics import Statistics

__all__ = ["Checkpoint", "Histogram", "Job", "Options", "Progress", "Queue", "Statistics", "lean_pipeline"]
