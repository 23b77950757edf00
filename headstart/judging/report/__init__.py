"""The report on a transfer: one module and one template a section, put together by `page`."""
