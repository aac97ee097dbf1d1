"""CPU-bound work in child processes: the worker stays quick, and a handler that ignores its timeout is killed."""

from jobwire import App

app = App()


# [task]
@app.task("primes.count", executor="process", timeout="1m")
def count_primes(below: int) -> int:
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))


# [/task]


def main() -> None:
    print(count_primes.run(1000))


if __name__ == "__main__":
    main()
