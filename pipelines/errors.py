"""How does Ragtide say no? One error for everything that the user can put right."""


class RefusalError(Exception):
    """Something is wrong that the user can mend: the message says what, where and what to do, in one line.

    Raised before anything is changed; the command line prints it without a traceback and exits with 1.
    """
