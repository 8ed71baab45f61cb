"""The system of record: records, errors, digests, plug-ins, stores and the release ledger."""
