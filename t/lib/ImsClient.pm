package ImsClient;

# A user for tests: an identity of the pool, a user agent, and its WebSocket.
#
#   my $c = ImsClient->new(user => 'alice');
#   my ($m, $link, $answer) = $c->registered($core);
#   $c->{ws}, $c->{ua}, $c->{id}, $c->{cookie}
#   $c->send($c->{ua}->register(...));  my $answer = $c->answer();
#   $c->connect();                      # another WebSocket for the same one

use strict;
use warnings;

use Socket qw/ IPPROTO_TCP TCP_NODELAY /;

use Ims;
use ImsSip;
use ImsWs;
use Test::Nginx ();

my $users = 0;


# %o: user (one that was not there yet), identity (where to get it), ws
# (options of the WebSocket, undef: none is opened), ua (options of the user
# agent)

sub new {
    my ($class, %o) = @_;

    my $user = $o{user} // 'client' . ++$users;
    my $uri = $o{identity} // '/ims/identity';
    my $reply;

    # what a page does, too: a disk that is slow in between is no matter

    for my $try (1 .. 5) {
        $reply = ims_identity(user => $user, uri => $uri);
        last unless $reply->{status} == 503
            && ($reply->{json}{error} // '') eq 'unavailable';
        sleep 1 if $try < 5;
    }

    my $id = $reply->{json};

    die "no identity: $reply->{status} $reply->{body}\n"
        unless $reply->{status} == 200;

    my $self = bless {
        user => $user, id => $id, cookie => $reply->{cookie},
        opened => $o{ws} // {}, uri => $uri,
        ua => ImsSip->new(aor => $id->{impu}, token => $id->{token},
                          %{$o{ua} // {}}),
    }, $class;

    $self->connect() unless exists $o{ws} && !defined $o{ws};

    return $self;
}


sub connect {
    my ($self, %o) = @_;

    $self->{ws} = ImsWs->new(port => Test::Nginx::port(8080),
                             origin => 'http://localhost',
                             %{$self->{opened}}, %o);

    # short messages one after the other shall not wait for acknowledgements
    setsockopt $self->{ws}{s}, IPPROTO_TCP, TCP_NODELAY, 1;

    return $self->{ws};
}


# a fresh token of the same lease

sub renew {
    my ($self) = @_;

    my $reply = ims_identity(user => $self->{user}, uri => $self->{uri},
                             cookie => $self->{cookie});

    $self->{id} = $reply->{json};
    $self->{ua}{token} = $reply->{json}{token};

    return $reply;
}


sub send {
    my ($self, $text, %o) = @_;

    return $self->{ws}->send($text, %o);
}


# the next message, parsed

sub answer {
    my ($self, $seconds) = @_;

    return shift @{$self->{early}} if @{$self->{early} // []};
    return sip_parse($self->{ws}->recv($seconds // 5));
}


# the same, but requests that come before a response are for later: a request
# that has waited for the flow may be faster than the 200 of its REGISTER

sub status_answer {
    my ($self, $seconds) = @_;
    my ($answer, @early);

    while ($answer = $self->answer($seconds)) {
        last if defined $answer->{status};
        push @early, $answer;
    }

    push @{$self->{early}}, @early;

    return $answer;
}


# registers with a core of ours: what it got, over which link, and what the
# client was told

sub registered {
    my ($self, $core, %over) = @_;

    $self->send($self->{ua}->register(%over));

    my ($m, $link) = $core->request()
        or die "REGISTER did not reach the core\n";
    $core->reply($link, $m, 200, 'OK');

    return ($m, $link, $self->status_answer());
}


# is the WebSocket still served

sub alive {
    my ($self) = @_;

    $self->send("\r\n\r\n");

    while (defined(my $text = $self->{ws}->recv(3))) {
        return 1 if $text eq "\r\n";
    }

    return 0;
}


1;
