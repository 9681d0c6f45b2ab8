"""A program that forwards one port of this machine to another, for stand-ins of ssh and kubectl."""

FORWARDER = """\
import socket, sys, threading
def pump(a, b):
    while data := a.recv(65536):
        b.sendall(data)
    b.shutdown(socket.SHUT_WR)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        one, _ = server.accept()
        other = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
        threading.Thread(target=pump, args=(one, other), daemon=True).start()
        threading.Thread(target=pump, args=(other, one), daemon=True).start()
"""
