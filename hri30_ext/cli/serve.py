"""Serve a model on this machine.

Serves a page at /, clips at /v1/predict, and frames of a camera at the WebSocket
/v1/stream; described by /openapi.json.

A token may also be in the environment, as HRI30_TOKEN. Clients send it as
Authorization: Bearer TOKEN; the page asks for it.
"""

from dataclasses import fields

from .. import cli
from ..deploy.serve.settings import Settings

parser = cli.Parser(__doc__)
parser.add_argument('--model', required=True, nargs='+', metavar='MODEL',
                    help='an exported folder, which needs no torch; or a checkpoint, or a '
                         'config and its checkpoint')
parser.add_argument('--teach', metavar='D', help='let the page add classes to a '
                    'checkpoint; the taught checkpoints go to the new folder D')
parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS',
                    help='address to listen on; default %(default)s: this machine only')
parser.add_argument('--port', type=int, default=8000, help='default: %(default)s')
parser.add_argument('--token-file', metavar='FILE',
                    help='file with a token in its first line')
parser.add_argument('--allowed-host', action='append', default=[], metavar='NAME',
                    help='another name of this machine; may be repeated')
cli.add_inference_arguments(parser)
limits = parser.add_argument_group('limits')
for limit in fields(Settings):
    limits.add_argument(f'--{limit.name.replace("_", "-")}', metavar='N',
                        type=cli.at_least(1, limit.type), default=limit.default,
                        help=f'{limit.metadata["help"]}; default %(default)s')


def main(args) -> None:
    if args.teach and args.provider:
        cli.fail('--provider: runs exported folders, and --teach needs a checkpoint.')
    from ..deploy.serve.server import import_server, serve
    import_server()
    from ..deploy.serve.guards import Access, read_token
    settings = Settings(*(getattr(args, limit.name) for limit in fields(Settings)))
    access = Access(read_token(args.token_file), tuple(args.allowed_host))

    def load() -> tuple:
        if not args.teach:
            from ..apis import Recognizer
            return Recognizer.open(*args.model, threads=args.threads,
                                   provider=args.provider), None
        from ..apis.teaching import Teacher
        teacher = Teacher(args.model, args.teach, args.threads)
        return teacher.recognizer, teacher

    serve(args.model[-1], load, args.host, args.port, settings, access)
