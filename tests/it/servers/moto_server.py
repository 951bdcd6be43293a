"""A local DynamoDB for the tests: moto, one request after the other, until standard input ends.

    python moto_server.py PORT [no-tokens]

moto decides the conditions of a transaction, and takes all of it back where one is not met. What it
lacks is added here: requests are served one at a time, since its own threads would see each other's
halves; a transaction is remembered by its token, as the service does for ten minutes; and a
transaction's way back is made without a copy of every item.
"""

import copy
import io
import json
import os
import sys
import threading
from collections import defaultdict

from werkzeug.serving import make_server

import moto.dynamodb.models as models
from moto.core.responses import ActionResult
from moto.dynamodb.exceptions import MockValidationException
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler
from moto.server import DomainDispatcherApplication, create_backend_app


class IdempotentParameterMismatch(MockValidationException):
    error_type = "com.amazonaws.dynamodb.v20120810#IdempotentParameterMismatchException"

    def __init__(self):
        super().__init__("The request's token came with other parameters")
        self.code = "IdempotentParameterMismatchException"


class Snapshots:
    """Copies a table without its items, once in a transaction; those are never changed in place, see
    below. Of its partitions, those alone are copied that the transaction writes to."""

    written = {}
    taken = {}

    @classmethod
    def begin(cls, backend, transact_items):
        cls.written, cls.taken = defaultdict(set), {}
        for operation in (next(iter(item.values())) for item in transact_items):
            table = backend.tables.get(operation.get("TableName"))
            key = operation.get("Item") or operation.get("Key")
            if table is not None and key:
                cls.written[table.name].add(DynamoType(key[table.hash_key_attr]))

    @classmethod
    def deepcopy(cls, value, memo=None):
        if not isinstance(value, Table):
            return copy.deepcopy(value, memo)
        if value.name not in cls.taken:
            taken = copy.copy(value)
            taken.items = value.items.copy()
            for partition in cls.written[value.name] & taken.items.keys():
                taken.items[partition] = dict(taken.items[partition])
            cls.taken[value.name] = taken
        return cls.taken[value.name]


def with_one_snapshot(transact_write_items):
    def transact(self, transact_items):
        Snapshots.begin(self, transact_items)
        return transact_write_items(self, transact_items)

    return transact


def without_changes_in_place(update_item):
    def update(self, table_name, key, *args, **kwargs):
        table = self.get_table(table_name)
        partition, sort = (DynamoType(key[name]) for name in table.attribute_keys)
        if sort in table.items.get(partition, {}):
            row = table.items[partition]
            row[sort] = copy.deepcopy(row[sort])
        return update_item(self, table_name, key, *args, **kwargs)

    return update


def with_tokens(transact_write_items):
    done = {}

    def transact(self):
        token = self.body.get("ClientRequestToken")
        said = json.dumps(self.body, sort_keys=True, default=repr)
        if token in done:
            if done[token] != said:
                raise IdempotentParameterMismatch()
            return ActionResult({})
        answer = transact_write_items(self)
        done[token] = said
        return answer

    return transact


def main():
    models.copy = Snapshots
    transact = DynamoDBBackend.transact_write_items
    DynamoDBBackend.transact_write_items = with_one_snapshot(transact)
    DynamoDBBackend.update_item = without_changes_in_place(DynamoDBBackend.update_item)
    if "no-tokens" not in sys.argv:
        handler = DynamoHandler.transact_write_items
        DynamoHandler.transact_write_items = with_tokens(handler)
    application = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def serve(environment, start_response):
        # Read before the turn: a client that stops in the middle keeps nobody waiting.
        length = int(environment.get("CONTENT_LENGTH") or 0)
        environment["wsgi.input"] = io.BytesIO(environment["wsgi.input"].read(length))
        with one_at_a_time:
            return application(environment, start_response)

    def until_the_end():
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=until_the_end, daemon=True).start()
    server = make_server("127.0.0.1", int(sys.argv[1]), serve, threaded=True)
    # The first request loads what the others need.
    print("ready", flush=True)
    server.serve_forever()


main()
