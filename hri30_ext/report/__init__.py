"""``report.html``: all of a result folder in one file that opens from disk."""

from .build import REPORT, write_report

__all__ = ['REPORT', 'write_report']
