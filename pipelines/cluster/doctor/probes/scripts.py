"""What the probes' pods run: Python of the images, in which Lorry's own modules are."""

PULL = "print('pulled')"

STORE = """
import sys
from components.errors import LorryError
from components.storage.store import Store
try:
    size = Store(sys.argv[1], short_timeouts=True).size_of("models/current.json")
except LorryError as error:
    sys.exit(str(error))
print("reached; it has", "no model yet" if size is None else "a newest model")
"""

HUB = """
import os, sys, urllib.error, urllib.request
address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
try:
    urllib.request.urlopen(address, timeout=10)
except urllib.error.HTTPError:
    pass
except OSError as error:
    sys.exit(f"{address} is not reached ({error})")
print(f"{address} is reached")
"""

CLAIMS = """
import os, sys
for claim in sys.argv[1:]:
    path = f"/volumes/{claim}/.lorry-doctor-{os.getpid()}"
    try:
        with open(path, "wb") as file:
            file.write(b"lorry")
        os.unlink(path)
    except OSError as error:
        sys.exit(f"{claim}: user {os.getuid()} with group {os.getgid()} cannot write ({error.strerror})")
print(f"user {os.getuid()} can write to {', '.join(sys.argv[1:])}")
"""

PROCESSOR = """
wanted = "avx avx2 fma avx_vnni avx512f avx512_vnni avx512_bf16 amx_tile asimd asimddp i8mm sve".split()
names = ("flags", "Features")
lines = [line.partition(":") for line in open("/proc/cpuinfo")]
found = next((set(value.split()) for name, _, value in lines if name.strip() in names), set())
print(*[flag for flag in wanted if flag in found])
"""

# A network plugin may need some seconds for a new pod: the closed one tries until it is stopped.
POLICY = """
import os, socket, sys, time
address = (os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"]))
is_closed = sys.argv[1] == "closed"
for _ in range(8):
    try:
        socket.create_connection(address, timeout=2).close()
        reached = True
    except OSError as error:
        reached, why = False, error
    if reached != is_closed:
        break
    time.sleep(1)
print("reached" if reached else f"not reached ({why})")
sys.exit(not reached)
"""
