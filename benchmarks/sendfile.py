"""The reference for downloads: answers every request with one file, by sendfile."""

from __future__ import annotations

import asyncio
import sys


async def main() -> None:
    path = sys.argv[2]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return writer.close()
            with open(path, "rb") as file:  # noqa: ASYNC230
                size = file.seek(0, 2)
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
                await writer.drain()
                await loop.sendfile(writer.transport, file)

    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
